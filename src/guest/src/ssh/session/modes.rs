//! Terminal modes of a `pty-req`: RFC 4254, section 8, and RFC 8160 for IUTF8.

use rustix::termios::{
    ControlModes, InputModes, LocalModes, OutputModes, SpecialCodeIndex as Index, Termios,
};

/// How the protocol says that a special character is off.
const NO_CHARACTER: u32 = 255;

/// Sets all modes that Linux has; others are left out, as sshd does.
pub fn apply(termios: &mut Termios, modes: &[(u8, u32)]) {
    for (code, value) in modes {
        one(termios, *code, *value);
    }
}

fn one(termios: &mut Termios, code: u8, value: u32) {
    let on = value != 0;
    if let Some(index) = special(code) {
        // The low byte is the character; 0 is how Linux says that there is none.
        let character = if value == NO_CHARACTER { 0 } else { value.to_le_bytes()[0] };
        termios.special_codes[index] = character;
    } else if let Some(flag) = input(code) {
        termios.input_modes.set(flag, on);
    } else if let Some(flag) = local(code) {
        termios.local_modes.set(flag, on);
    } else if let Some(flag) = output(code) {
        termios.output_modes.set(flag, on);
    } else {
        control(termios, code, value);
    }
}

fn special(code: u8) -> Option<Index> {
    Some(match code {
        1 => Index::VINTR,
        2 => Index::VQUIT,
        3 => Index::VERASE,
        4 => Index::VKILL,
        5 => Index::VEOF,
        6 => Index::VEOL,
        7 => Index::VEOL2,
        8 => Index::VSTART,
        9 => Index::VSTOP,
        10 => Index::VSUSP,
        12 => Index::VREPRINT,
        13 => Index::VWERASE,
        14 => Index::VLNEXT,
        16 => Index::VSWTC,
        18 => Index::VDISCARD,
        _ => return None,
    })
}

fn input(code: u8) -> Option<InputModes> {
    Some(match code {
        30 => InputModes::IGNPAR,
        31 => InputModes::PARMRK,
        32 => InputModes::INPCK,
        33 => InputModes::ISTRIP,
        34 => InputModes::INLCR,
        35 => InputModes::IGNCR,
        36 => InputModes::ICRNL,
        37 => InputModes::IUCLC,
        38 => InputModes::IXON,
        39 => InputModes::IXANY,
        40 => InputModes::IXOFF,
        41 => InputModes::IMAXBEL,
        42 => InputModes::IUTF8,
        _ => return None,
    })
}

fn local(code: u8) -> Option<LocalModes> {
    Some(match code {
        50 => LocalModes::ISIG,
        51 => LocalModes::ICANON,
        52 => LocalModes::XCASE,
        53 => LocalModes::ECHO,
        54 => LocalModes::ECHOE,
        55 => LocalModes::ECHOK,
        56 => LocalModes::ECHONL,
        57 => LocalModes::NOFLSH,
        58 => LocalModes::TOSTOP,
        59 => LocalModes::IEXTEN,
        60 => LocalModes::ECHOCTL,
        61 => LocalModes::ECHOKE,
        62 => LocalModes::PENDIN,
        _ => return None,
    })
}

fn output(code: u8) -> Option<OutputModes> {
    Some(match code {
        70 => OutputModes::OPOST,
        71 => OutputModes::OLCUC,
        72 => OutputModes::ONLCR,
        73 => OutputModes::OCRNL,
        74 => OutputModes::ONOCR,
        75 => OutputModes::ONLRET,
        _ => return None,
    })
}

fn control(termios: &mut Termios, code: u8, value: u32) {
    let on = value != 0;
    match code {
        // Sizes are no flags: a terminal of eight bits says yes to both, of which the later one counts.
        90 | 91 if on => {
            termios.control_modes.remove(ControlModes::CSIZE);
            termios.control_modes.insert(if code == 90 { ControlModes::CS7 } else { ControlModes::CS8 });
        }
        92 => termios.control_modes.set(ControlModes::PARENB, on),
        93 => termios.control_modes.set(ControlModes::PARODD, on),
        // A terminal without a speed hangs up. Linux takes any other.
        128 if on => drop(termios.set_input_speed(value)),
        129 if on => drop(termios.set_output_speed(value)),
        _ => {}
    }
}
