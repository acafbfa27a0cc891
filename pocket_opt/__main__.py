"""`python -m pocket_opt`: the command line."""

from pocket_opt.cli.main import entry

if __name__ == "__main__":
    entry()
