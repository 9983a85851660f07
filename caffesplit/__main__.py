"""`python -m caffesplit` is `caffesplit`."""

from caffesplit.cli.main import main

if __name__ == "__main__":
    main()
