"""`python -m pfedmoap`."""

from pfedmoap.cli import main

main()
