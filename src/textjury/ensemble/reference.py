"""The fixed reference texts that make stages and labels comparable before any row is labelled.

Every stage scores these texts once; the mean and scale per label are what "nothing in particular" looks like
to it. A label whose wording attracts every text (a prior bias of the model) gets a high mean and so loses
that head start; a stage on a wide scale gets a large scale and so does not drown the others. Two kinds of
text are mixed on purpose: content-free ones (Zhao et al. 2021, "Calibrate Before Use", arXiv 2102.09690) and
short sentences over many unrelated subjects and registers, whose average is closer to real rows than "N/A"
is.

The texts are part of the identity of a profile: changing one changes every vote. Bump ``REFERENCE_VERSION``.
"""

from __future__ import annotations

REFERENCE_VERSION = 1

_CONTENT_FREE = (
    "N/A",
    "...",
    "-",
    "text",
    "Hello,",
    "Thank you.",
    "Yes, that is fine.",
    "Please see below.",
    "No further comments.",
    "Regards, M.",
    "As discussed.",
    "To whom it may concern",
    "I have a question.",
    "This is a message.",
    "Could you let me know?",
    "Just following up on this.",
)

_MESSAGES = (
    "Hi, I wrote to you last week and have not heard back. Could someone get in touch with me?",
    "Thanks for the quick reply, that answers my question.",
    "I tried it again this morning and it still does not work the way I expected.",
    "Can you tell me how to do this? I looked everywhere and could not find it.",
    "We would like to change the details that you have on file for us.",
    "I am very happy with how this was handled, please pass my thanks to the team.",
    "This is the third time I am asking. I am really disappointed.",
    "What do I need to send you, and by when?",
    "Attached you will find the document we talked about on the phone.",
    "Is there anything else I should know before I decide?",
    "It arrived, but it was not what I had in mind.",
    "Please cancel my request from yesterday, I no longer need it.",
    "The amount shown does not match what I was told.",
    "My card stopped working while I was travelling abroad.",
    "I cannot log in any more since I changed my phone number.",
    "The parcel was left in the rain and the box is damaged.",
    "Who is the right person to speak to about a contract?",
    "Could we move the appointment to Thursday afternoon?",
    "Out of office: I am back on Monday and will read my mail then.",
    "You are receiving this message because you signed up for our newsletter.",
)

_NEWS = (
    "The council voted on Tuesday to postpone its decision until the end of the month.",
    "Shares closed slightly lower after a quiet day of trading.",
    "The home side won by two goals after a slow first half.",
    "Researchers describe a new method in a paper published this week.",
    "Heavy rain is expected along the coast through the weekend.",
    "The company named a new chief executive and kept its forecast for the year.",
    "Negotiators met again in the capital without reaching an agreement.",
    "Prices of wheat and maize rose as stocks fell for a second month.",
    "The central bank left interest rates unchanged, as most had expected.",
    "An oil tanker ran aground near the port; nobody was hurt.",
    "The two firms said they will merge, pending approval by regulators.",
    "Exports grew faster than imports in the last quarter.",
    "Police are looking for witnesses of an accident on the ring road.",
    "The festival opens on Friday with an orchestra and a film about the city.",
    "Voters go to the polls on Sunday in what looks like a close race.",
    "A court dismissed the complaint and ordered both parties to share the costs.",
    "The telescope sent back its first pictures of the distant moon.",
    "Teachers and parents argued for smaller classes at the meeting.",
)

_EVERYDAY = (
    "Boil the potatoes for twenty minutes and add a little salt.",
    "The museum on the hill was built in the nineteenth century.",
    "She plays the piano, and her brother is learning to dance.",
    "The old bridge crosses the river just below the mill.",
    "My dog is afraid of the vacuum cleaner.",
    "He grew up in a small village and later became a painter.",
    "This species of beetle lives under the bark of pine trees.",
    "The album has eleven songs and was recorded in one weekend.",
    "We walked along the beach until it was dark.",
    "The novel tells the story of a family of fishermen.",
    "The film is a bit long, but the acting is wonderful.",
    "The room was clean, the breakfast was poor, and the staff were kind.",
    "Wash at thirty degrees and do not tumble dry.",
    "Take one tablet twice a day after a meal.",
    "The train leaves at a quarter past six from platform four.",
    "The engine makes a strange noise when it is cold.",
    "Plant the bulbs in autumn, about ten centimetres deep.",
    "The school has four hundred pupils and a large garden.",
    "They say a change is as good as a rest.",
    "The recipe needs two eggs, flour, sugar and a lemon.",
)

_WORK = (
    "The report is due on Friday; please send me your figures before noon.",
    "Restart the server and clear the cache, then run the script again.",
    "The function returns a list, but I need a dictionary with the same keys.",
    "Both parties agree to keep the terms of this agreement confidential.",
    "We are hiring two people for the workshop, full time.",
    "The patient was seen on the ward and sent home the next day.",
    "Minutes of the meeting: item three was put off until next time.",
    "The budget for next year has not been approved yet.",
    "The update changes how files are stored on the disk.",
    "Every employee must complete the safety training once a year.",
    "The invoice was paid in March, the reminder can be ignored.",
    "Our supplier raised the price of paper by four percent.",
    "The licence covers up to ten users on one site.",
    "Quality was good overall, with a few defects in the last batch.",
    "The warehouse moves to a new building in the spring.",
    "The survey was answered by about half of the people we asked.",
)

_OTHER = (
    "lol no way, see you there!!",
    "ok thx",
    "meh. could be better",
    "so proud of you all",
    "what is the capital of that country, and how many people live there?",
    "1. open  2. read  3. sign  4. return",
    "Ref 48213 / 07 / B",
    "12:30 - 13:15",
    "Bonjour, merci pour votre message, je vous réponds demain.",
    "Guten Tag, vielen Dank für Ihre Nachricht vom Montag.",
    "Hola, quería saber si todavía es posible.",
    "Buongiorno, vi scrivo per avere qualche informazione.",
)

REFERENCE_TEXTS: tuple[str, ...] = (*_CONTENT_FREE, *_MESSAGES, *_NEWS, *_EVERYDAY, *_WORK, *_OTHER)
"""About a hundred distinct texts, all normalised; their order is fixed."""
