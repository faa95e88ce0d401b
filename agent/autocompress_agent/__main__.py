"""``python -m autocompress_agent``."""

from autocompress_agent.cli import main

if __name__ == "__main__":
    main()
