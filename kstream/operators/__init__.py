"""What a batch goes through: each operator takes columns and hands columns on."""
