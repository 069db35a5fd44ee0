//! The survey's taxonomy: which statistics a method needs, and how it turns them into rankings.
