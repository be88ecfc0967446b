"""What retrieve stands on: search engines, the statistics in SQLite, the log of documents."""
