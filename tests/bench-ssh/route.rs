//! The ways into a Spark that are compared.

use std::process::Command;

/// A way: a Host of the configuration that [`super::world`] writes, or a Spark that `spark` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// OpenSSH's sshd, with the cipher that both ends choose.
    Sshd,
    /// The same with what our server and this client agree on: OpenSSH by itself chooses a slower cipher, and a slower key
    /// exchange.
    SshdAlike,
    /// The gateway, which decrypts and encrypts.
    Gateway,
    /// The same with the cipher that `spark ssh-config` asks for.
    GatewayAlike,
    /// The gateway as a jump host: encrypted end to end, inside of a second encryption up to the gateway.
    Jump,
    /// The same with that cipher, both times.
    JumpAlike,
    /// `spark ssh`, `spark scp` and `spark sftp`: by TCP through the gateway, encrypted once and end to end; the API
    /// server lets the key in.
    Spark,
}

/// In the order in which they are measured.
pub const ALL: [Route; 7] = [
    Route::Sshd,
    Route::Gateway,
    Route::Jump,
    Route::SshdAlike,
    Route::GatewayAlike,
    Route::JumpAlike,
    Route::Spark,
];

impl Route {
    /// What people call it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Sshd => "sshd",
            Self::SshdAlike => "sshd, alike",
            Self::Gateway => "gateway",
            Self::GatewayAlike => "gateway, alike",
            Self::Jump => "jump host",
            Self::JumpAlike => "jump host, alike",
            Self::Spark => "`spark ssh`",
        }
    }

    /// Its Host in the configuration, or its Spark.
    pub fn host(self) -> &'static str {
        match self {
            Self::Sshd => "sshd",
            Self::SshdAlike => "sshd-alike",
            Self::Gateway => "gateway",
            Self::GatewayAlike => "gateway-alike",
            Self::Jump => "jump",
            Self::JumpAlike => "jump-alike",
            Self::Spark => "here",
        }
    }
}

/// Runs a program to its end and wants it to succeed.
pub fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output()?;
    anyhow::ensure!(
        output.status.success(),
        "{command:?} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
