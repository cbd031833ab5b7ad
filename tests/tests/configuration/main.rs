//! The configuration while a director runs, and while somebody writes it.

mod editor;
mod includes;
mod reload;
