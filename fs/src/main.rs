//! The `notefs` program; everything it does lives in the library.

fn main() -> std::process::ExitCode {
    notefs::cli::run()
}
