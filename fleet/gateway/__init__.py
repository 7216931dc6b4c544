"""The way in to tenants: what is held back for a while, what is limited, what is passed on."""
