//! What a client gets from a proxy that does not ask the server.

use std::io::{BufRead, Write};
use std::net::{Shutdown, TcpStream};

use anyhow::Result;

use super::{Head, copy_body};

const WEB_PAGE: &str =
    "<!DOCTYPE html><html><head><title>Sign in</title></head><body>Welcome to our network</body></html>";

/// An error of S3's, with a status and a code.
pub(super) fn refuse(
    head: &Head,
    from_client: &mut impl BufRead,
    client: &TcpStream,
    (status, code): (u16, &str),
) -> Result<u16> {
    let body = format!("<Error><Code>{code}</Code><Message>told to fail</Message></Error>");
    answer(head, from_client, client, (status, &body))
}

/// What a captive portal shows instead of the store.
pub(super) fn show_web_page(head: &Head, from_client: &mut impl BufRead, client: &TcpStream) -> Result<u16> {
    answer(head, from_client, client, (200, WEB_PAGE))
}

/// Answers once the whole request has come, and hangs up.
fn answer(
    head: &Head,
    from_client: &mut impl BufRead,
    mut client: &TcpStream,
    (status, body): (u16, &str),
) -> Result<u16> {
    copy_body(head, from_client, &mut std::io::sink(), 0)?;
    let body = if head.first_line.starts_with("HEAD ") { "" } else { body };
    write!(
        client,
        "HTTP/1.1 {status} As told\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    client.shutdown(Shutdown::Both)?;
    Ok(status)
}

/// Ends the connection with a reset.
pub(super) fn reset(client: &TcpStream) -> Result<u16> {
    use std::os::fd::AsRawFd;
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    let size = size_of::<libc::linger>() as libc::socklen_t;
    // SAFETY: the socket is open and the option's value outlives the call.
    unsafe {
        libc::setsockopt(
            client.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size,
        )
    };
    Ok(0)
}
