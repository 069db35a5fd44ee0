//! top_tokens.
