"""The command line `tl-nla`: one file a command."""
