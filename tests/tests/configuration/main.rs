//! The configuration while a director runs, and while somebody writes it.

mod compose;
mod editor;
mod includes;
mod reload;
