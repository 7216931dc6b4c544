"""The coordinator: assigns tenants to hosts, notices lost hosts, starts replacements."""
