"""`uv run deploy`: from a Google Cloud project to the first thumbnail, by gcloud.

The service imports nothing of it, and the container leaves it out.
"""
