"""What several tests share: a tiny vocabulary, a tiny model of tables, a runtime that keeps watch."""
