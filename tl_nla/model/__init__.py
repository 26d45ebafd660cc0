"""The target model as this package sees it: its norms, its blocks' writes, its heads, its read-out, and their checks."""
