"""mlxbridge's own HTTP API, for what the others have no words for: status and events as they happen, and models' coming and going."""
