// Package legacy speaks the wire of the Python scripts that this began with, so that whoever runs them can move over one side at a
// time: a Server for their client, a Client for their server. The wire is in message.go, byte by byte. It is insecure by construction, and here
// only for that move; the sealed channel is package transport.
//
// # What the wire does not give, whatever its program does
//
// No integrity: AES-CBC without a MAC. Who can change bytes on the way changes texts unnoticed, and who has recorded a request and can send to its
// server gets the text: he sends it again with other data, block by block, and looks whether and how much is answered.
// No forward secrecy: whoever gets the server's key reads all that was ever recorded. No proof of the server: a reply shows that
// somebody has the key, but nothing ties replies to requests sent before. No proof of clients: whoever has the public key is one. No protection
// against replays. PKCS#1 v1.5 besides, whose implementations leak in practice.
//
// # What this package does promise
//
// No RSA oracle: a request that does not decrypt ends in the same silent close after the same work, whatever is wrong with it, and
// whether the RSA padding was right cannot be told: the private operation and the removal of the padding take constant time, and
// where the padding is wrong a plaintext is made up (PrivateKey.unwrap). A source that sends many of those is kept out.
// The key is for this wire alone; programs must refuse one that is used elsewhere.
//
// Nothing that came over the wire is evaluated: one form of literal is parsed (parseLiteral). All that a peer sends is bounded before it is
// allocated: a request by 3 MiB, all large requests together by 48 MiB, besides those by 16 KiB for each connection, and the replies by what Handle returns.
// Connections, requests and bad requests are limited, for each source and in all; nobody waits for a silent client for
// longer than the timeouts of Config. Requests of a connection are answered one by one, in order.
//
// Texts are UTF-8. NULs at the end of a text are lost, for they are the padding, so the empty text is no data or any number of blocks of NULs:
// both are taken; we write one block. Errors cannot be told: the connection ends.
//
// # Goroutines and locks
//
//	Server    the caller of Serve; one a connection; one that calls Config.Refused. Stopped by Shutdown or Close, which wait.
//	Client    one reads; one a call writes, which the call waits for. Stopped by Close, which waits.
//	locks     Server.mu alone, under which nothing blocks.
//
// Reading order: literal.go, message.go, rsa.go, keyfile.go; server.go, conn.go, limits.go; client.go.
package legacy
