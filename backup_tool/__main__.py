"""`python -m backup_tool`: the same as `backup`."""

from backup_tool.cli import main

if __name__ == "__main__":
    main()
