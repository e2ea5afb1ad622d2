// echo.js: HTTP echo by one node process: node echo.js PORT | SOCKET
const http = require('http'), where = process.argv[2];
http.createServer((request, response) => {
  const parts = [];
  request.on('data', part => parts.push(part));
  request.on('end', () => {
    const body = Buffer.concat(parts);
    response.writeHead(200, {'Content-Type': 'application/octet-stream', 'Content-Length': body.length});
    response.end(body);
  });
}).listen(isNaN(where) ? {path: where} : {port: Number(where), host: '127.0.0.1'});
