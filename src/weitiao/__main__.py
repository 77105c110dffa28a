"""`python -m weitiao` is the command `weitiao`."""

from .cli import main

if __name__ == "__main__":
    main()
