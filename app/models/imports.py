"""What imports have done, for the metrics: their own process is over before anybody could ask it."""

from sqlalchemy import BigInteger, CheckConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.models.orm import Base


class ImportTotal(Base):
    """Rows of all imports so far, by what became of them."""

    __tablename__ = "import_total"
    __table_args__ = (CheckConstraint("outcome IN ('stored', 'failed')", name="outcome"),)

    outcome: Mapped[str] = mapped_column(primary_key=True)
    rows: Mapped[int] = mapped_column(BigInteger)
