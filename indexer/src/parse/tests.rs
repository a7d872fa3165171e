//! Parsing, note by note.

use super::*;
