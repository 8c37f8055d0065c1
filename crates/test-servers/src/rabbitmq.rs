//! `rabbitmq-server`, a node of its own: no plugins, no file of the system's, a port mapper that nobody else uses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::server::{Kind, Server};
use crate::{free_port, program, skipped};

/// Starts a `RabbitMQ`, whose user is `guest` with the password `guest`. It takes some seconds.
pub fn rabbitmq() -> Option<Server> {
    rabbitmq_with("")
}

/// Starts one with these lines of configuration, such as `default_pass = secret`.
pub fn rabbitmq_with(configuration: &str) -> Option<Server> {
    // Debian's script of this name in the search path changes the user; the server's own does not.
    let script = program("rabbitmq-server", &["/usr/lib/rabbitmq/bin".into()]);
    let (Some(script), Some(mapper)) = (script, program("epmd", &[])) else {
        skipped("rabbitmq-server");
        return None;
    };
    let configuration = configuration.to_owned();
    Some(Server::start(RabbitMq { script, mapper, mapper_port: free_port(), distribution_port: free_port(), configuration }))
}

struct RabbitMq {
    script: PathBuf,
    /// Erlang's port mapper. A node that finds none starts one that outlives it.
    mapper: PathBuf,
    mapper_port: u16,
    distribution_port: u16,
    configuration: String,
}

impl Kind for RabbitMq {
    fn name(&self) -> &'static str {
        "rabbitmq"
    }

    fn prepare(&self, folder: &Path) {
        fs::write(folder.join("enabled_plugins"), "[].\n").expect("the list of plugins");
        let configuration = format!("disk_free_limit.absolute = 10MB\n{}\n", self.configuration);
        fs::write(folder.join("rabbitmq.conf"), configuration).expect("a configuration");
    }

    fn companion(&self, _folder: &Path) -> Option<Command> {
        let mut command = Command::new(&self.mapper);
        command.args(["-address", "127.0.0.1", "-port", &self.mapper_port.to_string()]);
        Some(command)
    }

    fn command(&self, folder: &Path, port: u16) -> Command {
        let mut command = Command::new(&self.script);
        command
            .env("HOME", folder)
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", self.mapper_port.to_string())
            .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq.conf"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_DIST_PORT", self.distribution_port.to_string())
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("enabled_plugins"))
            .env("RABBITMQ_LOGS", "-")
            .env("RABBITMQ_LOG_BASE", folder)
            .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
            .env("RABBITMQ_NODENAME", format!("test{}@localhost", self.distribution_port))
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", port.to_string())
            // The script becomes the server, instead of waiting for it.
            .env("RUNNING_UNDER_SYSTEMD", "true");
        command
    }

    /// A method frame on channel 0: `connection.start`.
    fn question(&self) -> (&[u8], &[u8]) {
        (b"AMQP\x00\x00\x09\x01", &[1, 0, 0])
    }
}
