"""Lightning callbacks: saving, resuming, samples, reports."""
