"""What was committed in a database, told by an outbox, by logical decoding or by an ORM's own events."""
