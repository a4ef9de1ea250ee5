"""What has been read, kept for prompts that begin the same: in memory and on disk."""
