"""The service on one machine, without an account: real photos, emulated storage and Pub/Sub, the real server.

A front end like `app.py` and `job.py`, for people who want to see it work. Nothing of the service imports it.
"""
