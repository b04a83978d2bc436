"""A model as a server: OpenAI's interface, a page to chat on, requests joined into batches as they come."""
