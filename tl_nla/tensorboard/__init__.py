"""What a report looks like in TensorBoard: stock summaries, and a small tab of our own."""
