//! Statistics that are filled batch by batch and merged block by block: their laws and their
//! state on disk. Memory is fixed by the run file, never by the length of the corpus.

pub mod summary;
