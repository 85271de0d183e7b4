"""The store: from rows of users to the tables of the engine."""
