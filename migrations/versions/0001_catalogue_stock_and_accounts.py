"""The catalogue, stock and accounts.

The first revision: makes everything, locks nothing that was there.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Text
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# RFC 9562 section 5.7, filled by method 3 of section 6.2: 48 bits of milliseconds, 12 bits of the fraction below them, the rest random.
# PostgreSQL 18 has uuidv7(), which does the same in a third of the time; this one works from 15 on.
_UUID_V7_NATIVE = "CREATE FUNCTION uuid_v7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE RETURN uuidv7()"
_UUID_V7 = """
CREATE FUNCTION uuid_v7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
    SELECT encode(
        overlay(
            overlay(uuid_send(gen_random_uuid()) PLACING substring(int8send(microseconds / 1000) FROM 3) FROM 1 FOR 6)
            PLACING substring(int4send(28672 | (microseconds % 1000 * 4096 / 1000)::int) FROM 3) FROM 7 FOR 2
        ),
        'hex'
    )::uuid
    FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS microseconds) AS clock
$$
"""

_APPEND_ONLY = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER stock_movement_append_only BEFORE UPDATE OR DELETE ON stock_movement FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
"""


def upgrade() -> None:
    has_uuidv7 = (op.get_bind().dialect.server_version_info or ()) >= (18,)
    op.execute(_UUID_V7_NATIVE if has_uuidv7 else _UUID_V7)
    op.create_table(
        "app_user",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuid_v7()"), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("roles", postgresql.ARRAY(Text()), nullable=False),
        sa.Column("disabled", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("token_generation", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("tokens_revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("email = lower(email)", name=op.f("app_user_email_is_lower_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("app_user_pkey")),
        sa.UniqueConstraint("email", name=op.f("app_user_email_key")),
    )
    op.create_index(op.f("app_user_tokens_revoked_at_idx"), "app_user", ["tokens_revoked_at"], unique=False)
    op.create_table(
        "category",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuid_v7()"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("parent_id", sa.Uuid(), nullable=True),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("parent_id <> id", name=op.f("category_not_its_own_parent_check")),
        sa.ForeignKeyConstraint(["parent_id"], ["category.id"], name=op.f("category_parent_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("category_pkey")),
        sa.UniqueConstraint("slug", name=op.f("category_slug_key")),
    )
    op.create_index("category_parent_id_id_idx", "category", ["parent_id", "id"], unique=False)
    op.create_table(
        "idempotency_key",
        sa.Column("principal_id", sa.Uuid(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request_hash", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("headers", postgresql.JSONB(astext_type=Text()), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("principal_id", "route", "key", name=op.f("idempotency_key_pkey")),
    )
    op.create_index(op.f("idempotency_key_created_at_idx"), "idempotency_key", ["created_at"], unique=False)
    op.create_table(
        "location",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuid_v7()"), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("address", postgresql.JSONB(astext_type=Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("location_pkey")),
        sa.UniqueConstraint("code", name=op.f("location_code_key")),
    )
    op.create_table(
        "login_attempt",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_failure_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("blocked_until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("subject", name=op.f("login_attempt_pkey")),
    )
    op.create_index(op.f("login_attempt_last_failure_at_idx"), "login_attempt", ["last_failure_at"], unique=False)
    op.create_table(
        "product",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuid_v7()"), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("tags", postgresql.ARRAY(Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("attributes", postgresql.JSONB(astext_type=Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("media", postgresql.JSONB(astext_type=Text()), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("status IN ('draft', 'active', 'archived')", name=op.f("product_status_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("product_pkey")),
        sa.UniqueConstraint("id", "status", name=op.f("product_id_status_key")),
        sa.UniqueConstraint("slug", name=op.f("product_slug_key")),
    )
    op.create_index("product_listed_id_idx", "product", ["id"], unique=False, postgresql_where=sa.text("status <> 'archived'"))
    op.create_index(
        "product_listed_updated_at_id_idx", "product", ["updated_at", "id"], unique=False, postgresql_where=sa.text("status <> 'archived'")
    )
    op.create_index("product_status_id_idx", "product", ["status", "id"], unique=False)
    op.create_index("product_status_updated_at_id_idx", "product", ["status", "updated_at", "id"], unique=False)
    op.create_table(
        "reservation",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuid_v7()"), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("status IN ('active', 'committed', 'released', 'expired')", name=op.f("reservation_status_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("reservation_pkey")),
    )
    op.create_index("reservation_due_idx", "reservation", ["expires_at"], unique=False, postgresql_where=sa.text("status = 'active'"))
    op.create_table(
        "product_category",
        sa.Column("product_id", sa.Uuid(), nullable=False),
        sa.Column("category_id", sa.Uuid(), nullable=False),
        sa.Column("direct", sa.Boolean(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["category_id"], ["category.id"], name=op.f("product_category_category_id_fkey")),
        sa.ForeignKeyConstraint(
            ["product_id", "status"],
            ["product.id", "product.status"],
            name=op.f("product_category_product_id_status_fkey"),
            onupdate="CASCADE",
        ),
        sa.PrimaryKeyConstraint("product_id", "category_id", name=op.f("product_category_pkey")),
    )
    op.create_index(
        "product_category_category_id_status_product_id_idx", "product_category", ["category_id", "status", "product_id"], unique=False
    )
    op.create_index(
        "product_category_listed_idx",
        "product_category",
        ["category_id", "product_id"],
        unique=False,
        postgresql_where=sa.text("status <> 'archived'"),
    )
    op.create_table(
        "product_tag",
        sa.Column("product_id", sa.Uuid(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["product_id", "status"], ["product.id", "product.status"], name=op.f("product_tag_product_id_status_fkey"), onupdate="CASCADE"
        ),
        sa.PrimaryKeyConstraint("product_id", "tag", name=op.f("product_tag_pkey")),
    )
    op.create_index(
        "product_tag_listed_idx", "product_tag", ["tag", "product_id"], unique=False, postgresql_where=sa.text("status <> 'archived'")
    )
    op.create_index("product_tag_tag_status_product_id_idx", "product_tag", ["tag", "status", "product_id"], unique=False)
    op.create_table(
        "variant",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuid_v7()"), nullable=False),
        sa.Column("product_id", sa.Uuid(), nullable=False),
        sa.Column("sku", sa.Text(), nullable=False),
        sa.Column("gtin", sa.Text(), nullable=True),
        sa.Column("options", postgresql.JSON(astext_type=Text()), nullable=False),
        sa.Column("attributes", postgresql.JSONB(astext_type=Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("archived", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["product_id"], ["product.id"], name=op.f("variant_product_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("variant_pkey")),
        sa.UniqueConstraint("sku", name=op.f("variant_sku_key")),
    )
    op.create_index("variant_product_id_position_idx", "variant", ["product_id", "position"], unique=False)
    op.create_table(
        "price",
        sa.Column("variant_id", sa.Uuid(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("amount_minor >= 0", name=op.f("price_not_negative_check")),
        sa.ForeignKeyConstraint(["variant_id"], ["variant.id"], name=op.f("price_variant_id_fkey")),
        sa.PrimaryKeyConstraint("variant_id", "currency", name=op.f("price_pkey")),
    )
    op.create_table(
        "reservation_line",
        sa.Column("reservation_id", sa.Uuid(), nullable=False),
        sa.Column("variant_id", sa.Uuid(), nullable=False),
        sa.Column("location_id", sa.Uuid(), nullable=False),
        sa.Column("quantity", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("quantity > 0", name=op.f("reservation_line_positive_check")),
        sa.ForeignKeyConstraint(["location_id"], ["location.id"], name=op.f("reservation_line_location_id_fkey")),
        sa.ForeignKeyConstraint(["reservation_id"], ["reservation.id"], name=op.f("reservation_line_reservation_id_fkey")),
        sa.ForeignKeyConstraint(["variant_id"], ["variant.id"], name=op.f("reservation_line_variant_id_fkey")),
        sa.PrimaryKeyConstraint("reservation_id", "variant_id", "location_id", name=op.f("reservation_line_pkey")),
    )
    op.create_table(
        "stock_level",
        sa.Column("variant_id", sa.Uuid(), nullable=False),
        sa.Column("location_id", sa.Uuid(), nullable=False),
        sa.Column("on_hand", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("reserved", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("on_hand >= 0", name=op.f("stock_level_on_hand_not_negative_check")),
        sa.CheckConstraint("reserved >= 0", name=op.f("stock_level_reserved_not_negative_check")),
        sa.ForeignKeyConstraint(["location_id"], ["location.id"], name=op.f("stock_level_location_id_fkey")),
        sa.ForeignKeyConstraint(["variant_id"], ["variant.id"], name=op.f("stock_level_variant_id_fkey")),
        sa.PrimaryKeyConstraint("variant_id", "location_id", name=op.f("stock_level_pkey")),
    )
    op.create_index("stock_level_location_id_variant_id_idx", "stock_level", ["location_id", "variant_id"], unique=False)
    op.create_table(
        "stock_movement",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuid_v7()"), nullable=False),
        sa.Column("variant_id", sa.Uuid(), nullable=False),
        sa.Column("location_id", sa.Uuid(), nullable=False),
        sa.Column("delta_on_hand", sa.BigInteger(), nullable=False),
        sa.Column("delta_reserved", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=True),
        sa.Column("cause_id", sa.Uuid(), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("delta_on_hand <> 0 OR delta_reserved <> 0", name=op.f("stock_movement_moves_something_check")),
        sa.ForeignKeyConstraint(["location_id"], ["location.id"], name=op.f("stock_movement_location_id_fkey")),
        sa.ForeignKeyConstraint(["variant_id"], ["variant.id"], name=op.f("stock_movement_variant_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("stock_movement_pkey")),
    )
    op.create_index("stock_movement_location_id_id_idx", "stock_movement", ["location_id", "id"], unique=False)
    op.create_index("stock_movement_variant_id_id_idx", "stock_movement", ["variant_id", "id"], unique=False)
    op.create_index("stock_movement_variant_id_location_id_id_idx", "stock_movement", ["variant_id", "location_id", "id"], unique=False)
    op.execute(_APPEND_ONLY)


def downgrade() -> None:
    op.drop_index("stock_movement_variant_id_id_idx", table_name="stock_movement")
    op.drop_index("stock_movement_variant_id_location_id_id_idx", table_name="stock_movement")
    op.drop_index("stock_movement_location_id_id_idx", table_name="stock_movement")
    op.drop_table("stock_movement")
    op.drop_index("stock_level_location_id_variant_id_idx", table_name="stock_level")
    op.drop_table("stock_level")
    op.drop_table("reservation_line")
    op.drop_table("price")
    op.drop_index("variant_product_id_position_idx", table_name="variant")
    op.drop_table("variant")
    op.drop_index("product_tag_tag_status_product_id_idx", table_name="product_tag")
    op.drop_index("product_tag_listed_idx", table_name="product_tag", postgresql_where=sa.text("status <> 'archived'"))
    op.drop_table("product_tag")
    op.drop_index("product_category_listed_idx", table_name="product_category", postgresql_where=sa.text("status <> 'archived'"))
    op.drop_index("product_category_category_id_status_product_id_idx", table_name="product_category")
    op.drop_table("product_category")
    op.drop_index("reservation_due_idx", table_name="reservation", postgresql_where=sa.text("status = 'active'"))
    op.drop_table("reservation")
    op.drop_index("product_status_updated_at_id_idx", table_name="product")
    op.drop_index("product_status_id_idx", table_name="product")
    op.drop_index("product_listed_updated_at_id_idx", table_name="product", postgresql_where=sa.text("status <> 'archived'"))
    op.drop_index("product_listed_id_idx", table_name="product", postgresql_where=sa.text("status <> 'archived'"))
    op.drop_table("product")
    op.drop_index(op.f("login_attempt_last_failure_at_idx"), table_name="login_attempt")
    op.drop_table("login_attempt")
    op.drop_table("location")
    op.drop_index(op.f("idempotency_key_created_at_idx"), table_name="idempotency_key")
    op.drop_table("idempotency_key")
    op.drop_index("category_parent_id_id_idx", table_name="category")
    op.drop_table("category")
    op.drop_index(op.f("app_user_tokens_revoked_at_idx"), table_name="app_user")
    op.drop_table("app_user")
    op.execute("DROP FUNCTION refuse_change")
    op.execute("DROP FUNCTION uuid_v7")
