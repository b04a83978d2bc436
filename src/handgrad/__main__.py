"""python -m handgrad is the same as the command handgrad."""

from handgrad.cli import main

main()
