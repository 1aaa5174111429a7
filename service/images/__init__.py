"""Bytes of an image file to bytes of its thumbnail. The only package that uses Pillow."""
