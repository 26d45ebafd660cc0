"""Guides, and the studies behind the results pages."""
