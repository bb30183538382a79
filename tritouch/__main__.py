"""`python -m tritouch`: the command line."""

from tritouch.cli import main

if __name__ == "__main__":
    main()
