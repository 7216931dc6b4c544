"""Durable execution on one SQLite file: workflows, their log, and its replay."""
