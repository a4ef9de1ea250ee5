"""OpenAI's API: models, chats, completions, responses, embeddings, reranking and tokens."""
