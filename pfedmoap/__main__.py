"""`python -m pfedmoap`."""

from pfedmoap.commands import main

main()
