fn main() -> std::process::ExitCode {
    gstvadlite::cli::main()
}
