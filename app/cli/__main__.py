"""`python -m app.cli`: the `stockroom` command of this very interpreter."""

from app.cli import main

main()
