"""Thumbnails for images in Cloud Storage: one core, three doors (`/run`, `/events`, the job)."""
