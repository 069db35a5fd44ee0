//! Which sites are read, and which are edited.
