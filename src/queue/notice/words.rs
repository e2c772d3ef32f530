//! What notices say, by language. Subjects are ASCII, so that they need no encoding.

use super::advice::Advice;

pub(super) struct Words {
    pub language: &'static str,
    pub subject_failed: &'static str,
    pub subject_delayed: &'static str,
    pub subject_delivered: &'static str,
    /// `{}` is this host.
    pub failed: &'static str,
    pub delayed: &'static str,
    pub delivered: &'static str,
    pub is_delivered: &'static str,
    pub is_relayed: &'static str,
    pub is_expanded: &'static str,
    /// `{}` is the host that answered.
    pub who_said: &'static str,
    /// `{}` is a date.
    pub until: &'static str,
    no_such_user: &'static str,
    no_such_domain: &'static str,
    takes_no_mail: &'static str,
    full: &'static str,
    too_large: &'static str,
    not_reached: &'static str,
    mail_loop: &'static str,
    refused: &'static str,
    no_tls: &'static str,
    no_utf8: &'static str,
    other: &'static str,
}

impl Words {
    pub fn advice(&self, advice: Advice) -> &'static str {
        match advice {
            Advice::NoSuchUser => self.no_such_user,
            Advice::NoSuchDomain => self.no_such_domain,
            Advice::TakesNoMail => self.takes_no_mail,
            Advice::Full => self.full,
            Advice::TooLarge => self.too_large,
            Advice::NotReached => self.not_reached,
            Advice::Loop => self.mail_loop,
            Advice::Refused => self.refused,
            Advice::NoTls => self.no_tls,
            Advice::NoUtf8 => self.no_utf8,
            Advice::Other => self.other,
        }
    }
}

/// By the primary subtag (RFC 5646 2.2.1): `es-MX` reads `es`.
pub(super) fn words(language: Option<&str>) -> &'static Words {
    let primary = language.and_then(|tag| tag.split(['-', '_']).next());
    let known = primary.and_then(|primary| {
        let is_it = |words: &&Words| words.language.eq_ignore_ascii_case(primary);
        LANGUAGES.iter().find(is_it)
    });
    known.unwrap_or(&LANGUAGES[0])
}

/// English first: it is for everybody whose language is not here.
pub(super) const LANGUAGES: [Words; 5] = [
    Words {
        language: "en",
        subject_failed: "Your message was not delivered",
        subject_delayed: "Your message is late, but still on its way",
        subject_delivered: "Your message was delivered",
        failed: "This is the mail server {}. Your message, which is attached, was not delivered \
                 to the people below. You need not send it again to anybody else.",
        delayed: "This is the mail server {}. Your message is still on its way to the people \
                  below. You need do nothing: it is tried again by itself.",
        delivered: "This is the mail server {}. You asked to be told when your message arrived.",
        is_delivered: "It lies in the mailbox.",
        is_relayed: "It was handed to the next mail server, which does not tell more.",
        is_expanded: "This address stands for several others, and it was passed on to them.",
        who_said: "The mail server {} did not take it. It said:",
        until: "It is tried until {}. If it still cannot be delivered then, you will be told.",
        no_such_user: "There is no such address. Look for a spelling mistake, or ask the person \
                       for the right address by other means.",
        no_such_domain: "There is no such domain. Look for a spelling mistake after the @.",
        takes_no_mail: "This domain says that it takes no mail at all. Look for a spelling \
                        mistake after the @.",
        full: "The mailbox is full. Try again in some days, or reach the person by other means.",
        too_large: "That server does not take a message as large as this one. Send a smaller one, \
                    or a link to what was attached.",
        not_reached: "That mail server could not be reached, or did not finish the transfer. \
                      The fault is most likely on that side.",
        mail_loop: "The message went in a circle between mail servers. The postmaster of the \
                    address has to mend that.",
        refused: "That server does not want the message, by a rule of its own. If you think that \
                  this is wrong, send its words to your postmaster by answering this message.",
        no_tls: "The message must travel encrypted, and that server cannot do so safely.",
        no_utf8: "That server cannot take addresses or headers with letters beyond ASCII. Ask the \
                  person for an address without them.",
        other: "If its words do not help, answer this message to reach your postmaster.",
    },
    Words {
        language: "es",
        subject_failed: "Su mensaje no se ha entregado",
        subject_delayed: "Su mensaje se retrasa, pero sigue en camino",
        subject_delivered: "Su mensaje se ha entregado",
        failed: "Este es el servidor de correo {}. Su mensaje, que va adjunto, no se ha entregado \
                 a las personas indicadas abajo. No hace falta que lo reenvíe a las demás.",
        delayed: "Este es el servidor de correo {}. Su mensaje sigue en camino hacia las personas \
                  indicadas abajo. No tiene que hacer nada: se vuelve a intentar solo.",
        delivered: "Este es el servidor de correo {}. Pidió que se le avisara cuando llegara su \
                    mensaje.",
        is_delivered: "Está en el buzón.",
        is_relayed: "Se ha entregado al servidor siguiente, que no informa de nada más.",
        is_expanded: "Esta dirección representa a varias otras, y se les ha pasado el mensaje.",
        who_said: "El servidor de correo {} no lo ha aceptado. Ha dicho:",
        until: "Se intentará hasta {}. Si entonces no se ha podido entregar, se le avisará.",
        no_such_user: "Esa dirección no existe. Busque un error al escribirla, o pida la \
                       dirección correcta por otro medio.",
        no_such_domain: "Ese dominio no existe. Busque un error después de la @.",
        takes_no_mail: "Ese dominio dice que no recibe correo. Busque un error después de la @.",
        full: "El buzón está lleno. Inténtelo dentro de unos días, o por otro medio.",
        too_large: "Ese servidor no acepta mensajes tan grandes. Envíe uno más pequeño, o un \
                    enlace a lo que iba adjunto.",
        not_reached: "No se ha podido llegar a ese servidor, o no ha terminado la transferencia. \
                      Lo más probable es que el fallo esté en ese lado.",
        mail_loop: "El mensaje daba vueltas entre servidores. Tiene que arreglarlo el \
                    administrador de esa dirección.",
        refused: "Ese servidor no quiere el mensaje por una regla suya. Si cree que es un error, \
                  envíe sus palabras a su administrador respondiendo a este mensaje.",
        no_tls: "El mensaje debe viajar cifrado, y ese servidor no puede hacerlo con seguridad.",
        no_utf8: "Ese servidor no acepta direcciones o cabeceras con letras fuera de ASCII. Pida \
                  a la persona una dirección sin ellas.",
        other: "Si sus palabras no le sirven, responda a este mensaje para llegar a su \
                administrador.",
    },
    Words {
        language: "ca",
        subject_failed: "El seu missatge no s'ha lliurat",
        subject_delayed: "El seu missatge s'endarrereix, pero continua en cami",
        subject_delivered: "El seu missatge s'ha lliurat",
        failed: "Aquest és el servidor de correu {}. El seu missatge, que va adjunt, no s'ha \
                 lliurat a les persones indicades a sota. No cal que el torni a enviar a les \
                 altres.",
        delayed: "Aquest és el servidor de correu {}. El seu missatge continua en camí cap a les \
                  persones indicades a sota. No ha de fer res: es torna a provar sol.",
        delivered: "Aquest és el servidor de correu {}. Va demanar que se l'avisés quan arribés \
                    el seu missatge.",
        is_delivered: "És a la bústia.",
        is_relayed: "S'ha lliurat al servidor següent, que no informa de res més.",
        is_expanded: "Aquesta adreça en representa diverses, i se'ls ha passat el missatge.",
        who_said: "El servidor de correu {} no l'ha acceptat. Ha dit:",
        until: "Es provarà fins a {}. Si llavors no s'ha pogut lliurar, se l'avisarà.",
        no_such_user: "Aquesta adreça no existeix. Busqui un error en escriure-la, o demani \
                       l'adreça correcta per un altre mitjà.",
        no_such_domain: "Aquest domini no existeix. Busqui un error després de la @.",
        takes_no_mail: "Aquest domini diu que no rep correu. Busqui un error després de la @.",
        full: "La bústia és plena. Provi-ho d'aquí a uns dies, o per un altre mitjà.",
        too_large: "Aquest servidor no accepta missatges tan grans. Enviï'n un de més petit, o un \
                    enllaç al que anava adjunt.",
        not_reached: "No s'ha pogut arribar a aquest servidor, o no ha acabat la transferència. \
                      El més probable és que la fallada sigui en aquell costat.",
        mail_loop: "El missatge donava voltes entre servidors. Ho ha d'arreglar l'administrador \
                    d'aquesta adreça.",
        refused: "Aquest servidor no vol el missatge per una regla seva. Si creu que és un error, \
                  enviï les seves paraules al seu administrador responent aquest missatge.",
        no_tls: "El missatge ha de viatjar xifrat, i aquest servidor no ho pot fer amb seguretat.",
        no_utf8: "Aquest servidor no accepta adreces o capçaleres amb lletres fora d'ASCII. \
                  Demani a la persona una adreça sense.",
        other: "Si les seves paraules no li serveixen, respongui aquest missatge per arribar al \
                seu administrador.",
    },
    Words {
        language: "de",
        subject_failed: "Ihre Nachricht wurde nicht zugestellt",
        subject_delayed: "Ihre Nachricht ist noch unterwegs",
        subject_delivered: "Ihre Nachricht wurde zugestellt",
        failed: "Hier ist der Mailserver {}. Ihre Nachricht, die unten anhängt, wurde den \
                 folgenden Personen nicht zugestellt. An andere brauchen Sie sie nicht noch \
                 einmal zu senden.",
        delayed: "Hier ist der Mailserver {}. Ihre Nachricht ist zu den folgenden Personen noch \
                  unterwegs. Sie brauchen nichts zu tun: Es wird von selbst weiter versucht.",
        delivered: "Hier ist der Mailserver {}. Sie wollten erfahren, wann Ihre Nachricht \
                    ankommt.",
        is_delivered: "Sie liegt im Postfach.",
        is_relayed: "Sie wurde dem nächsten Mailserver übergeben, der nichts weiter meldet.",
        is_expanded: "Diese Adresse steht für mehrere andere, und sie wurde an diese weitergegeben.",
        who_said: "Der Mailserver {} hat sie nicht angenommen. Er sagte:",
        until: "Es wird bis {} versucht. Geht es auch dann nicht, so erfahren Sie es.",
        no_such_user: "Diese Adresse gibt es nicht. Suchen Sie nach einem Schreibfehler, oder \
                       erfragen Sie die richtige Adresse auf anderem Weg.",
        no_such_domain: "Diese Domain gibt es nicht. Suchen Sie nach einem Schreibfehler hinter \
                         dem @.",
        takes_no_mail: "Diese Domain nimmt nach eigener Angabe keine Post an. Suchen Sie nach \
                        einem Schreibfehler hinter dem @.",
        full: "Das Postfach ist voll. Versuchen Sie es in einigen Tagen oder auf anderem Weg.",
        too_large: "Dieser Server nimmt keine so große Nachricht an. Senden Sie eine kleinere, \
                    oder einen Link auf den Anhang.",
        not_reached: "Dieser Mailserver war nicht zu erreichen oder hat die Übertragung nicht \
                      beendet. Der Fehler liegt wahrscheinlich auf jener Seite.",
        mail_loop: "Die Nachricht lief zwischen Mailservern im Kreis. Das muss der Postmaster der \
                    Adresse beheben.",
        refused: "Dieser Server will die Nachricht nach einer eigenen Regel nicht. Halten Sie das \
                  für falsch, so senden Sie seine Worte an Ihren Postmaster, indem Sie hierauf \
                  antworten.",
        no_tls: "Die Nachricht muss verschlüsselt reisen, und dieser Server kann das nicht \
                 sicher.",
        no_utf8: "Dieser Server nimmt keine Adressen oder Kopfzeilen mit Buchstaben außerhalb von \
                  ASCII an. Fragen Sie nach einer Adresse ohne solche.",
        other: "Helfen Ihnen seine Worte nicht, so erreichen Sie Ihren Postmaster, indem Sie \
                hierauf antworten.",
    },
    Words {
        language: "fr",
        subject_failed: "Votre message n'a pas pu etre remis",
        subject_delayed: "Votre message est en retard, mais toujours en route",
        subject_delivered: "Votre message a ete remis",
        failed: "Ici le serveur de messagerie {}. Votre message, joint ci-dessous, n'a pas été \
                 remis aux personnes suivantes. Inutile de le renvoyer aux autres.",
        delayed: "Ici le serveur de messagerie {}. Votre message est toujours en route vers les \
                  personnes suivantes. Vous n'avez rien à faire : les essais continuent.",
        delivered: "Ici le serveur de messagerie {}. Vous avez demandé à être averti de \
                    l'arrivée de votre message.",
        is_delivered: "Il est dans la boîte aux lettres.",
        is_relayed: "Il a été confié au serveur suivant, qui n'en dit pas plus.",
        is_expanded: "Cette adresse en représente plusieurs, auxquelles il a été transmis.",
        who_said: "Le serveur de messagerie {} ne l'a pas accepté. Il a dit :",
        until: "Les essais continuent jusqu'au {}. En cas d'échec, vous serez averti.",
        no_such_user: "Cette adresse n'existe pas. Cherchez une faute de frappe, ou demandez la \
                       bonne adresse par un autre moyen.",
        no_such_domain: "Ce domaine n'existe pas. Cherchez une faute de frappe après le @.",
        takes_no_mail: "Ce domaine déclare ne recevoir aucun courrier. Cherchez une faute de \
                        frappe après le @.",
        full: "La boîte est pleine. Réessayez dans quelques jours, ou par un autre moyen.",
        too_large: "Ce serveur n'accepte pas un message aussi grand. Envoyez-en un plus petit, ou \
                    un lien vers la pièce jointe.",
        not_reached: "Ce serveur n'a pas pu être joint, ou n'a pas terminé le transfert. La faute \
                      est sans doute de ce côté-là.",
        mail_loop: "Le message tournait en rond entre des serveurs. C'est à l'administrateur de \
                    cette adresse d'y remédier.",
        refused: "Ce serveur ne veut pas du message, selon une règle à lui. Si cela vous semble \
                  faux, transmettez ses mots à votre administrateur en répondant à ce message.",
        no_tls: "Le message doit voyager chiffré, et ce serveur ne sait pas le faire sûrement.",
        no_utf8: "Ce serveur n'accepte pas d'adresses ni d'en-têtes avec des lettres hors ASCII. \
                  Demandez une adresse qui n'en a pas.",
        other: "Si ses mots ne vous aident pas, répondez à ce message pour joindre votre \
                administrateur.",
    },
];
