//! The page.

mod browser;
mod html;
mod payloads;
