"""`python -m ecustream` is the command `ecustream`."""

from ecustream.cli import main

main()
