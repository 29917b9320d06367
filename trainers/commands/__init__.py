"""The commands of `evo-rnn`, one file a group. Nothing heavy is imported before a command runs."""
