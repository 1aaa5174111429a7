"""The only door to Cloud Storage, and the only package that uses Google's libraries."""
