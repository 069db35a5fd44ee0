//! The page.

mod browser;
mod html;
mod overview;
mod payloads;
