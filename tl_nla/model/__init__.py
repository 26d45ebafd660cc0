"""The target model: its text, its norms, its blocks' writes, its heads, its read-out, and their checks."""
