//! What runtime the command line asks for.

use calisto_runtime::Config;

use crate::cli::Cli;
use crate::error::Failure;

/// The runtime of a server that listens on ADDR.
pub(super) fn of_server(cli: &Cli) -> Result<Config, Failure> {
    let listen = *cli.addr()?.ip();
    let config = read(cli, (!listen.is_unspecified()).then_some(listen))?;
    if !listen.is_unspecified() && listen != config.addr {
        return Err(Failure::Usage(format!(
            "ADDR is {listen}, but the runtime's address is {}: give the same, or 0.0.0.0",
            config.addr
        )));
    }
    Ok(config)
}

/// The runtime of a client that asks ADDR.
pub(super) fn of_client(cli: &Cli) -> Result<Config, Failure> {
    let server = *cli.addr()?.ip();
    let mut config = read(cli, None)?;
    if server == config.addr {
        return Err(Failure::Usage(format!(
            "{server} is the client's own address: give another with --ip or --config"
        )));
    }
    let peer = cli.runtime_args.peer_mac.map(|mac| (server, mac));
    config.arp.extend(peer);
    Ok(config)
}

fn read(cli: &Cli, default_ip: Option<std::net::Ipv4Addr>) -> Result<Config, Failure> {
    let args = &cli.runtime_args;
    let mut config = match &args.config {
        Some(path) => Config::from_file(path).map_err(|e| Failure::Usage(e.to_string()))?,
        None => Config {
            addr: args.ip.or(default_ip).ok_or_else(|| {
                Failure::Usage("the runtime has no address: give --ip or --config".to_owned())
            })?,
            prefix_len: args.prefix_len,
            gateway: args.gateway,
            mac: args.mac,
            kthreads: args.kthreads,
            guaranteed: args.guaranteed,
            spinning: args.spinning,
            ..Config::default()
        },
    };
    config.arp.extend(&args.arp);
    config.patience = cli.client.patience;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::time::Duration;

    fn cli(args: &str) -> Cli {
        let args = std::iter::once("synthetic").chain(args.split_whitespace());
        Cli::try_parse_from(args).expect("good arguments")
    }

    #[test]
    fn a_server_has_the_address_on_which_it_listens() {
        let config = of_server(&cli(
            "10.0.0.7:80 -m spawner-server --kthreads 3 --spinning",
        ));
        let config = config.expect("good");
        assert_eq!(config.addr.octets(), [10, 0, 0, 7]);
        assert_eq!((config.kthreads, config.spinning), (3, true));
        let other = of_server(&cli("10.0.0.7:80 -m spawner-server --ip 10.0.0.8"));
        assert_eq!(other.expect_err("differ").exit_code(), 2);
        assert!(of_server(&cli("0.0.0.0:80 -m spawner-server")).is_err());
    }

    #[test]
    fn a_client_needs_an_address_of_its_own() {
        assert!(of_client(&cli("10.0.0.7:80 -m runtime-client")).is_err());
        assert!(of_client(&cli("10.0.0.7:80 -m runtime-client --ip 10.0.0.7")).is_err());
        let config = of_client(&cli(
            "10.0.0.7:80 -m runtime-client --ip 10.0.0.8 --arp 10.0.0.9=02:00:00:00:00:09 \
             --peer-mac 02:00:00:00:00:07 --patience 2",
        ));
        let config = config.expect("good");
        assert_eq!(config.patience, Duration::from_secs(2));
        let macs: Vec<u8> = config
            .arp
            .iter()
            .map(|(ip, mac)| ip.octets()[3] + mac[5])
            .collect();
        assert_eq!(macs, [18, 14]);
    }
}
